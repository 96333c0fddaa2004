"""What a person looks at: pages, charts and contact sheets, drawn from what they are given."""
