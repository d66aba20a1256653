"""The DICOM network: the port that receives (C-ECHO, C-STORE) and the sender that delivers."""
