"""Labels and values, one pair a line: what every command prints."""


def print_rows(rows):
    for label, value in rows:
        print(f"{label:<15} {value}")
