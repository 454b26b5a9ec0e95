package config

// readableByOthers: files under ProgramData\Sidetone inherit the access list that the
// installer sets on the directory.
func readableByOthers(string) string { return "" }
