"""What people look at: tables, CSV rows, pictures and figures."""
