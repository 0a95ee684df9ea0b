"""The report of a virtual run: one HTML file, made of nothing but the files of the run's directory."""
