"""The method's commands: the whole of it as one resumable run, and the small ones that look at a part."""
