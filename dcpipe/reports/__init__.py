"""Reports for people: tables, CSV rows, pictures and figures."""
