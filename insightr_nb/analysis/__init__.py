"""What a finished run says: metrics, explanations, figures."""
