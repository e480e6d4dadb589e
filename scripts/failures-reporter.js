// A reporter of vitest: what failed, in a few lines each, is added to build/test/failures.txt, which `make test` prints last. vitest's own JSON
// report says nothing of hooks: a suite whose beforeAll failed has skipped tests there.
import { appendFileSync, mkdirSync } from 'node:fs';

/** Of a failure so many characters; the whole stands in the runner's own output. */
const MESSAGE = 900;

export default class FailuresReporter {
  /** @param {ReadonlyArray<import('vitest/node').TestModule>} modules */
  onTestRunEnd(modules) {
    mkdirSync('build/test', { recursive: true });
    for (const module of modules) {
      this.#tell(module.relativeModuleId, module.errors());
      for (const suite of module.children.allSuites()) this.#tell(`${module.relativeModuleId} > ${suite.fullName}`, suite.errors());
      for (const test of module.children.allTests('failed'))
        this.#tell(`${module.relativeModuleId} > ${test.fullName}`, test.result().errors ?? []);
    }
  }

  #tell(name, errors) {
    for (const { message } of errors) appendFileSync('build/test/failures.txt', `FAILED ${name}: ${message.slice(0, MESSAGE)}\n`);
  }
}
