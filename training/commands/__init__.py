"""The workstation's commands; each module is cheap to import."""
