"""Tools, queries, examples: their records, prompts, parsers and rules. Imports no torch."""

from data.parse import Reason, parse_calls, parse_tools
from data.schema import Example, Query, Tool, ToolCall, load_examples, load_queries, load_tools

__all__ = ["Example", "Query", "Reason", "Tool", "ToolCall", "load_examples", "load_queries", "load_tools",
           "parse_calls", "parse_tools"]
