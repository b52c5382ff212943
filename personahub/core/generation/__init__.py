"""The generation loop, its journal and its budget, and the functions that LLM stages share."""
