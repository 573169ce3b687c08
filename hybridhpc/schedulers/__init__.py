"""The dialects: commands and the parsing of their answers, in pairs. Pure; nothing can be started here."""
