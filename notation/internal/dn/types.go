package dn

import "strings"

// types are the attribute types that have a name: those of RFC 4519 and of
// CA/Browser Forum's EV Guidelines (section 9.2), by the name that is written here.
var types = []struct{ oid, name string }{
	{"2.5.4.3", "CN"}, {"2.5.4.4", "SN"}, {"2.5.4.5", "serialNumber"}, {"2.5.4.6", "C"}, {"2.5.4.7", "L"}, {"2.5.4.8", "ST"},
	{"2.5.4.9", "STREET"}, {"2.5.4.10", "O"}, {"2.5.4.11", "OU"}, {"2.5.4.12", "title"}, {"2.5.4.13", "description"},
	{"2.5.4.15", "businessCategory"}, {"2.5.4.16", "postalAddress"}, {"2.5.4.17", "postalCode"}, {"2.5.4.18", "postOfficeBox"},
	{"2.5.4.20", "telephoneNumber"}, {"2.5.4.41", "name"}, {"2.5.4.42", "GN"}, {"2.5.4.43", "initials"},
	{"2.5.4.44", "generationQualifier"}, {"2.5.4.45", "x500UniqueIdentifier"}, {"2.5.4.46", "dnQualifier"}, {"2.5.4.65", "pseudonym"},
	{"2.5.4.97", "organizationIdentifier"}, {"0.9.2342.19200300.100.1.1", "UID"}, {"0.9.2342.19200300.100.1.25", "DC"},
	{"1.2.840.113549.1.9.1", "emailAddress"}, {"1.2.840.113549.1.9.2", "unstructuredName"},
	{"1.3.6.1.4.1.311.60.2.1.1", "jurisdictionL"}, {"1.3.6.1.4.1.311.60.2.1.2", "jurisdictionST"}, {"1.3.6.1.4.1.311.60.2.1.3", "jurisdictionC"},
}

// others are further names of the same types, as openssl, Windows, Java and the
// Notary Project's specification write them; in lower case.
var others = map[string]string{
	"s": "ST", "sp": "ST", "stateorprovincename": "ST", "state": "ST", "countryname": "C", "country": "C", "organizationname": "O",
	"organization": "O", "organizationalunitname": "OU", "organizationalunit": "OU", "commonname": "CN", "localityname": "L", "locality": "L",
	"streetaddress": "STREET", "surname": "SN", "givenname": "GN", "g": "GN", "t": "title", "e": "emailAddress", "email": "emailAddress",
	"mail": "emailAddress", "domaincomponent": "DC", "userid": "UID", "zip": "postalCode",
	"jurisdictioncountryname": "jurisdictionC", "jurisdictionofincorporationcountryname": "jurisdictionC", "incorporationcountry": "jurisdictionC",
	"jurisdictionstateorprovincename": "jurisdictionST", "jurisdictionofincorporationstateorprovincename": "jurisdictionST", "incorporationstate": "jurisdictionST",
	"jurisdictionlocalityname": "jurisdictionL", "jurisdictionofincorporationlocalityname": "jurisdictionL", "incorporationlocality": "jurisdictionL",
	"qualifier": "dnQualifier", "dnqualifier": "dnQualifier",
}

// typeOf returns the name by which a type is known here, in whatever case it is
// written (RFC 4512, section 2.5), or its number where it has none; "" where it is
// neither a name that is known nor a number.
func typeOf(s string) string {
	low := strings.ToLower(s)
	number := strings.TrimPrefix(low, "oid.")
	for _, t := range types {
		if strings.EqualFold(t.name, s) || t.oid == number {
			return t.name
		}
	}
	if name, ok := others[low]; ok {
		return name
	}
	if isNumber(number) {
		return number
	}
	return ""
}

// isNumber reports whether s is a dotted number (RFC 4512, section 1.4: numericoid).
func isNumber(s string) bool {
	arcs := strings.Split(s, ".")
	for _, a := range arcs {
		if a == "" || len(a) > 1 && a[0] == '0' || strings.Trim(a, "0123456789") != "" {
			return false
		}
	}
	return len(arcs) > 1
}

// typeNames are the names that a hint may suggest.
func typeNames() (out []string) {
	for _, t := range types {
		out = append(out, t.name)
	}
	return out
}
