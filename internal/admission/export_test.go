package admission

// Decode is [Options.Decode] of the zero value.
func Decode(body []byte) (Request, error) { return Options{}.Decode(body) }
