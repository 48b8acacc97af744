"""The parts of the Markdown pages that are made from the code: `python -m tests.documents` renews them all.

Each stands in a page between two markers, `<!-- NAME:begin -->` and `<!-- NAME:end -->`. Tests fail if one is not
current: tests/unit/test_documents.py, and tests/integration/test_outputs.py for what needs a Redis.
"""
