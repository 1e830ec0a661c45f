package externaldata

// Fast is the fast path of Decode by itself.
func Fast(body []byte) (version, kind string, keys []string, ok bool) {
	w, ok := decodeFast(body)
	if !ok {
		return "", "", nil, false
	}
	return w.APIVersion, w.Kind, w.Request.Keys, true
}
