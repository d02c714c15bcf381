"""What is fast, measured beside what a user would use instead.  Each script prints its conditions."""
