"""Whether images still are what was first seen: files in a folder, or a study in an archive, against the ledger.

`compare` decides about files, `archive` fetches them, `checking` does both for one study and keeps the result,
`sampling` is the timetable's share, `budget` what an archive may be asked for. Only `compare` decodes: for the analyse
role and the command line, never for a receiver or the timetable.
"""
