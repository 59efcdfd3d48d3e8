"""Many runs as one page, figures and tables: what a reader needs to believe a comparison."""
