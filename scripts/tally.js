// Sums vitest's JSON reports into one closing line, and exits with 1 unless all passed: tally.js REPORT…
// A report that is missing, or that says it failed without naming a test (a file that does not load), counts as one failure.
import { existsSync, readFileSync } from 'node:fs';

const ENDS = ['passed', 'failed', 'skipped', 'todo', 'disabled'];
let passed = 0;
let failed = 0;
let skipped = 0;
for (const file of process.argv.slice(2)) {
  if (!existsSync(file)) {
    console.error(`${file} is missing: the test runner did not finish`);
    failed++;
    continue;
  }
  const report = JSON.parse(readFileSync(file, 'utf8'));
  const broken = report.testResults.filter(
    (result) => result.status === 'failed' && result.assertionResults.every((test) => test.status !== 'failed'),
  );
  for (const { name, message } of broken) console.error(`${name}: ${message}`);
  const failures = report.numFailedTests + broken.length;
  // A worker that died leaves tests that neither ran nor were meant not to.
  const unfinished = report.testResults
    .flatMap(({ assertionResults }) => assertionResults)
    .filter(({ status }) => !ENDS.includes(status)).length;
  if (unfinished > 0) console.error(`${file}: ${unfinished} tests did not come to their end`);
  passed += report.numPassedTests;
  failed += unfinished + (failures > 0 || report.success ? failures : 1);
  skipped += report.numPendingTests + report.numTodoTests - unfinished;
}
console.log(`${passed} passed, ${failed} failed${skipped > 0 ? `, ${skipped} skipped` : ''}`);
process.exitCode = failed > 0 || passed === 0 ? 1 : 0;
