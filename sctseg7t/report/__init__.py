"""What reports and figures are made of, shared by every room that draws or writes pages."""
