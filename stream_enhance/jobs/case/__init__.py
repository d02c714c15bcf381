"""A case folder: what footage shows of faces, as a page, a PDF and files that another expert can check."""
