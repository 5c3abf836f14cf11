"""Evaluation of finished runs: metrics, tables, explanations and figures."""
