"""What verbs do with files that are not what they should be: tests of every verb with every file that it takes."""
