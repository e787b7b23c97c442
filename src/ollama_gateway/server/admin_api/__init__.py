"""The admin API: HTTP for the control surface, under `/admin/v1/` of the admin listener."""
