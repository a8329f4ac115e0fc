"""User code: the modules that a builder, method, analysis or objective from outside RIB consists of, by content."""
