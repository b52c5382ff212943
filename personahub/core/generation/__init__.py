"""Generation: the loop that asks engines, its journal, its budget and its prices."""
