"""Many cameras in one process, their web page, API and metrics."""
