"""The generation loop, its journal and budget, and functions of LLM stages."""
