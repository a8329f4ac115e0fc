"""The store: the results of steps, in a folder that can be moved, copied, or shared by several machines."""
