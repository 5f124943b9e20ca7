// Runs the package http-cache-tests against a cache, and prints a JSON array of what came of each test.
// node http-cache-tests.mjs FOLDER-OF-THE-PACKAGE http://CACHE [ID...]

const [folder, base, ...ids] = process.argv.slice(2)
const part = (path) => import(new URL(path, `file://${folder}/`))

const suites = [...(await part('tests/index.mjs')).default, (await part('tests/surrogate-control.mjs')).default]
const { runTests, getResults } = await part('client/runner.mjs')
const { determineTestResult } = await part('lib/display.mjs')
const fetch = (await part('node_modules/node-fetch/lib/index.mjs').catch(() => part('../node-fetch/lib/index.mjs'))).default

if (ids.length > 0) {
  for (const suite of suites) suite.tests = suite.tests.filter((test) => ids.includes(test.id))
}
await runTests(suites, fetch, false, base)
const results = getResults()
const outcomes = suites.flatMap((suite) =>
  suite.tests
    .filter((test) => results[test.id] !== undefined)
    .map((test) => ({
      id: test.id,
      name: `${suite.name}: ${test.name}`,
      kind: test.kind ?? 'required',
      // A test that tells how a cache is, rather than how it should be, gets `Y` or `N`.
      passed: ['✅', 'Y'].includes(determineTestResult(suites, test.id, results, false)[2]),
      why: results[test.id] === true ? '' : results[test.id].join(': ')
    }))
)
console.log(JSON.stringify(outcomes))
