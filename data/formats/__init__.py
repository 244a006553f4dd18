"""Readers of tool-calling corpora, one small module per format, and `convert`, which turns them into ToolDev's files."""
