"""The store: what steps have left, in a folder that may be moved, copied, or shared by several machines."""
