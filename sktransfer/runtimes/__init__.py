"""Other runtimes than torch for frozen stages, which plugins provide."""
