"""The live view: one local page, served by a process of its own, that shows the loop and commands it."""
