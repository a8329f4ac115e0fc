"""Execute: who does the missing steps. Knows no method."""
