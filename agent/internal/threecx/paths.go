package threecx

// Path is a path that may be asked for with GET. The constants below are the whole
// list: a client refuses every other. A test holds the list against the table of
// what must never be called.
type Path string

// What may be read from a v20, below /xapi/v1.
const (
	PathStatus           Path = "/xapi/v1/SystemStatus"
	PathSystemExtensions Path = "/xapi/v1/SystemStatus/Pbx.SystemExtensions()"
	PathActiveCalls      Path = "/xapi/v1/ActiveCalls"
	PathTrunks           Path = "/xapi/v1/Trunks"
	PathSBCs             Path = "/xapi/v1/Sbcs"
	PathServices         Path = "/xapi/v1/Services"
	PathLicence          Path = "/xapi/v1/LicenseStatus"
	PathBackups          Path = "/xapi/v1/Backups"
	PathBackupSettings   Path = "/xapi/v1/Backups/Pbx.GetBackupSettings()"
	PathBackupRepository Path = "/xapi/v1/Backups/Pbx.GetBackupRepositorySettings()"
	PathEventLogs        Path = "/xapi/v1/EventLogs"
	PathUsers            Path = "/xapi/v1/Users"
)

// The two paths of signing in are the only ones that are sent a POST.
const (
	SignInClient = "/connect/token"
	SignInUser   = "/webclient/api/Login/GetAccessToken"
)

// Paths is the allow-list.
func Paths() []Path {
	return []Path{
		PathStatus, PathSystemExtensions, PathActiveCalls, PathTrunks, PathSBCs, PathServices,
		PathLicence, PathBackups, PathBackupSettings, PathBackupRepository, PathEventLogs, PathUsers,
	}
}

// Allowed tells whether p is on the allow-list.
func Allowed(p Path) bool {
	for _, a := range Paths() {
		if p == a {
			return true
		}
	}
	return false
}

// Essential paths are the state of the PBX itself: a refusal there is a finding
// about the PBX and is never remembered as "not offered".
func (p Path) Essential() bool { return p == PathStatus }
