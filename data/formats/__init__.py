"""Readers of tool-calling corpora, one small module a format, and `convert`, which turns them into ToolDev's files."""
