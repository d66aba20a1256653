"""The service: the DICOM network, a study's life, its evidence objects, and the command line."""
