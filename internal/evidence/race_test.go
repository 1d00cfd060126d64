//go:build race

package evidence

// raceDetector multiplies what memory a process takes.
const raceDetector = true
