"""The mesh: federations of real devices, with a coordinator or among peers."""
