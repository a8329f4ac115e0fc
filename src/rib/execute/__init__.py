"""Execute: runs the missing steps of a plan. It knows no method."""
