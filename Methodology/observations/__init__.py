"""From a file of any instrument to one row. What is odd about an instrument is a row of one table, here alone."""
