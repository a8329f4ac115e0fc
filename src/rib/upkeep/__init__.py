"""Upkeep: what is done to a store as a whole: verified, cleared of garbage, archived, merged with another."""
