"""The paper's own numbers, read off its tables (arXiv 2505.07512), to stand beside ours. Figures 2 to 4 print none.

`TABLE_1` rows: name, the row of the leaderboard's CSV of 2024-09-20 (None where it has none), then non-live simple,
multiple, parallel, parallel multiple; live simple, multiple, parallel, parallel multiple; non-live, live, overall.
"""

TABLE_1_COLUMNS = ("non_live_simple", "non_live_multiple", "non_live_parallel", "non_live_parallel_multiple",
                   "live_simple", "live_multiple", "live_parallel", "live_parallel_multiple",
                   "non_live", "live", "overall")

TABLE_1: tuple[tuple[str, str | None, tuple[float, ...]], ...] = (
    ("GPT-4-turbo (Prompt)", "GPT-4-turbo-2024-04-09 (Prompt)",
     (82.25, 94.50, 95.00, 93.50, 78.68, 83.12, 81.25, 75.00, 91.31, 82.09, 86.70)),
    ("xLAM-8x22b-r (FC)", "xLAM-8x22b-r (FC)",
     (77.00, 95.50, 92.50, 94.00, 70.93, 77.72, 75.00, 75.00, 89.75, 76.33, 83.04)),
    ("ToolDev (FC)", None, (80.17, 97.50, 93.50, 87.50, 70.16, 76.37, 81.25, 75.00, 89.67, 75.20, 82.44)),
    ("Llama-3-70B-Instruct (Prompt)", "Meta-Llama-3-70B-Instruct (Prompt)",
     (75.83, 94.50, 91.50, 87.00, 69.77, 78.01, 75.00, 66.67, 87.21, 76.18, 81.69)),
    ("mistral-large (FC)", "mistral-large-2407 (FC)",
     (57.50, 94.00, 93.00, 92.00, 79.07, 78.88, 87.50, 75.00, 84.12, 78.95, 81.54)),
    ("xLAM-8x7b-r (FC)", "xLAM-8x7b-r (FC)",
     (77.25, 95.50, 92.00, 89.00, 68.99, 76.18, 50.00, 75.00, 88.44, 74.46, 81.45)),
    ("ToolACE-8B (FC)", None, (80.58, 95.00, 91.00, 90.50, 62.79, 74.25, 81.25, 75.00, 89.27, 72.13, 80.70)),
    ("GPT-4o-mini (Prompt)", "GPT-4o-mini-2024-07-18 (Prompt)",
     (79.67, 89.50, 89.00, 88.00, 72.09, 73.77, 81.25, 70.83, 86.54, 73.48, 80.01)),
    ("GPT-3.5-Turbo (FC)", "GPT-3.5-Turbo-0125 (FC)",
     (74.08, 93.00, 87.50, 83.50, 65.50, 74.16, 56.25, 54.17, 84.52, 71.91, 78.22)),
    ("FireFunction-v2 (FC)", "FireFunction-v2 (FC)",
     (78.83, 92.00, 91.00, 81.00, 69.38, 70.97, 56.25, 54.17, 85.71, 70.18, 77.95)),
    ("GPT-4-turbo (FC)", "GPT-4-turbo-2024-04-09 (FC)",
     (60.58, 91.00, 90.00, 89.00, 67.83, 74.45, 75.00, 62.50, 82.65, 72.96, 77.81)),
    ("GPT-4o (FC)", "GPT-4o-2024-08-06 (FC)",
     (73.58, 92.50, 91.50, 84.50, 67.83, 69.43, 75.00, 66.67, 85.52, 69.14, 77.33)),
    ("GPT-4o-mini (FC)", "GPT-4o-mini-2024-07-18 (FC)",
     (67.83, 90.50, 89.50, 83.50, 67.83, 69.82, 81.25, 70.83, 82.83, 69.59, 76.21)),
    ("Gorilla-OpenFunctions-v2 (FC)", "Gorilla-OpenFunctions-v2 (FC)",
     (77.67, 95.00, 89.00, 87.50, 63.95, 63.93, 62.50, 45.83, 87.29, 63.59, 75.44)),
    ("xLAM-7b-fc-r (FC)", "xLAM-7b-fc-r (FC)",
     (77.33, 92.50, 91.50, 86.00, 63.57, 63.36, 56.25, 50.00, 86.83, 63.08, 74.95)),
    ("Open-Mistral-Nemo (FC)", "Open-Mistral-Nemo-2407 (FC)",
     (60.92, 92.00, 85.50, 85.50, 68.22, 67.98, 75.00, 62.50, 80.98, 68.01, 74.50)),
    ("GPT-4o (Prompt)", "GPT-4o-2024-08-06 (Prompt)",
     (64.08, 86.50, 88.00, 85.00, 67.44, 67.21, 56.25, 58.33, 80.90, 66.96, 73.93)),
    ("Gemini-1.5-Flash-Preview (FC)", "Gemini-1.5-Flash-Preview-0514 (FC)",
     (65.42, 94.50, 71.50, 77.00, 62.79, 72.61, 56.25, 54.17, 77.10, 70.18, 73.64)),
    ("Claude-3.5-Sonnet (FC)", "Claude-3.5-Sonnet-20240620 (FC)",
     (75.42, 93.50, 62.00, 50.50, 72.48, 70.68, 68.75, 75.00, 70.35, 71.08, 70.72)),
    ("Gemini-1.5-Pro-Preview (FC)", "Gemini-1.5-Pro-Preview-0514 (FC)",
     (50.17, 89.50, 83.50, 79.00, 60.08, 66.35, 75.00, 54.17, 75.54, 65.02, 70.28)),
    ("o1-mini (Prompt)", "o1-mini-2024-09-12 (Prompt)",
     (68.92, 89.00, 73.50, 70.50, 62.79, 65.09, 68.75, 58.33, 75.48, 64.57, 70.02)),
)

TABLE_2 = {"GPT-4-turbo": {"apibank": 63.39, "teval": 87.50},
           "Llama-3.1-8B-Instruct": {"apibank": 54.11, "teval": 76.60},
           "ToolDev": {"apibank": 67.82, "teval": 77.03}}
