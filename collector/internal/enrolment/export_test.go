package enrolment

// CleanApplicant is applicant, for the fuzz test.
var CleanApplicant = applicant
