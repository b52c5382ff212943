"""Texts: rows of files, model replies, words and the student's prompt."""
