"""What test files share. A test file imports from here, and never from another test file."""
