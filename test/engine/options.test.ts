import { strict as assert } from 'node:assert'
import { test } from 'node:test'
import { parseOptions, resolveThreads, toFlags } from '../../engine/options.ts'
import { SetupError } from '../../src/core/errors.ts'

test('flags become options, and options flags', () => {
  const options = parseOptions(['--model', 'a/b.gguf', '--port', '8000', '--parallel', '3'])
  assert.ok(options)
  assert.equal(options.name, 'b')
  assert.deepEqual(options.listen, { host: '127.0.0.1', port: 8000 })
  assert.equal(options.parallel, 3)
  assert.deepEqual(parseOptions(toFlags(options)), options)
  const socket = parseOptions(['--model', 'm', '--socket', '/tmp/s', '--name', 'x', '--gpu', 'auto'])
  assert.ok(socket)
  assert.deepEqual(parseOptions(toFlags(socket)), socket)
})

test('--help asks for help', () => {
  assert.equal(parseOptions(['--help']), null)
})

const wrong: [string, RegExp][] = [
  ['--port 1', /--model is missing/],
  ['--model m', /either --socket PATH or --port N/],
  ['--model m --port 1 --socket s', /either/],
  ['--model m --port 70000', /--port is '70000'; it must be a whole number from 0 to 65535/],
  ['--model m --port 1 --parallel 0', /--parallel is '0'/],
  ['--model m --port 1 --threads two', /--threads is 'two'/],
  ['--model m --port 1 --gpu yes', /--gpu is 'yes'; it must be one of off, auto/],
  ['--model m --port 1 --colour red', /--colour/],
]
for (const [line, message] of wrong) {
  test(`'${line}' is refused with the way out`, () => {
    assert.throws(
      () => parseOptions(line.split(' ')),
      (error) => error instanceof SetupError && message.test(error.message),
    )
  })
}

test('threads leave a core where there are more than two', () => {
  assert.deepEqual(
    [resolveThreads(0, 1), resolveThreads(0, 2), resolveThreads(0, 8), resolveThreads(5, 2)],
    [1, 1, 7, 5],
  )
})
