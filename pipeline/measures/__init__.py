"""What can be measured on a finished run beyond its results: one small file for each measure."""
