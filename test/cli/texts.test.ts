import { strict as assert } from 'node:assert'
import { describe, it } from 'node:test'
import { formatBanner, quoteForShell, toReachableUrl } from '../../src/cli/banner.ts'
import { readLine, remember, type Session } from '../../src/cli/chat-session.ts'
import { toEngineFlags } from '../../src/cli/instance.ts'
import { formatBytes, formatProgress, makeProgress } from '../../src/cli/progress.ts'
import { describeFailure, wantsDetails } from '../../src/cli/report.ts'
import { SetupError } from '../../src/core/errors.ts'
import { parseOptions } from '../../engine/options.ts'
import { ManualClock } from '../helpers/clock.ts'

describe('the banner', () => {
  it('gives an address that can be reached, and a body that a shell leaves alone', () => {
    assert.equal(toReachableUrl('http://0.0.0.0:80'), 'http://127.0.0.1:80')
    assert.equal(toReachableUrl('http://[::]:80'), 'http://[::1]:80')
    assert.equal(quoteForShell("it's"), String.raw`'it'\''s'`)
  })
  it('shows a model that is ready rather than one that is not', () => {
    const models = [
      { id: 'a', instances: [{ id: 'a-0', state: 'unready' }] },
      { id: 'b', instances: [{ id: 'b-0', state: 'ready' }] },
    ]
    const text = formatBanner({ version: '1.2.3', url: 'http://0.0.0.0:9', configFile: null, models })
    assert.match(text, /^Open-AutoGLM 1\.2\.3 listens on http:\/\/0\.0\.0\.0:9\nconfiguration: defaults/)
    assert.match(text, /model a: a-0 unready\nmodel b: b-0 ready\n/)
    assert.match(text, /curl http:\/\/127\.0\.0\.1:9\/v1[\s\S]*"model":"b"/)
    assert.match(text, /chat --url http:\/\/127\.0\.0\.1:9 /)
    const none = formatBanner({ version: '1', url: 'http://127.0.0.1:8080', configFile: '/x', models: [] })
    assert.doesNotMatch(none, /curl|--url/)
  })
  it('says aloud that anybody is let in, or shows where the key goes', () => {
    const facts = {
      version: '1',
      url: 'http://127.0.0.1:8080',
      configFile: null,
      models: [{ id: 'a', instances: [] }],
    }
    assert.match(
      formatBanner({ ...facts, isOpen: true }),
      /\nauthentication is off: whoever reaches this address/,
    )
    assert.doesNotMatch(formatBanner({ ...facts, isOpen: true }), /Bearer/)
    assert.match(formatBanner({ ...facts, isOpen: false }), /-H "authorization: Bearer \$AUTOGLM_API_KEY"/)
    assert.doesNotMatch(formatBanner({ ...facts, isOpen: false }), /is off/)
  })
})

describe('progress', () => {
  it('is told in the unit that fits', () => {
    assert.deepEqual([0, 999, 1536, 150_000, 4.2e9].map(formatBytes), ['0 B', '999 B', '1.5 kB', '150 kB', '4.2 GB'])
  }) // prettier-ignore
  it('is a bar where the whole is known', () => {
    assert.equal(formatProgress({ label: 'x', doneBytes: 500, totalBytes: 1000 }), `x ${'█'.repeat(12)}${'░'.repeat(12)} 50% of 1.0 kB`)
    assert.equal(formatProgress({ label: 'x', doneBytes: 500, totalBytes: null }), 'x 500 B')
  }) // prettier-ignore
  it('is a line now and then where no terminal is, and always the last', () => {
    const clock = new ManualClock()
    const lines: string[] = []
    const stream = { isTTY: false, write: (text: string) => lines.push(text) } as unknown as NodeJS.WriteStream
    const show = makeProgress(stream, clock)
    for (let doneBytes = 0; doneBytes <= 10; doneBytes += 1) {
      show({ label: 'x', doneBytes, totalBytes: 10 })
      clock.advance(1000)
    }
    assert.deepEqual(lines.map((line) => /(\d+)%/.exec(line)?.[1]), ['0', '50', '100'])
  }) // prettier-ignore
})

describe('a failure', () => {
  it('is its message when it is a mistake of the person', () => {
    assert.equal(describeFailure(new SetupError('no such file'), true), 'error: no such file\n')
  })
  it('is short, with a stack trace only when asked', () => {
    const error = new TypeError('x is not a function')
    assert.equal(
      describeFailure(error, false),
      'error: unexpected failure: x is not a function\nSet AUTOGLM_DEBUG=1 to see where it happened.\n',
    )
    assert.match(describeFailure(error, true), /\n {4}at /)
    assert.equal(describeFailure('odd', false).split('\n')[0], 'error: unexpected failure: odd')
  })
  it('is detailed for AUTOGLM_DEBUG and the level debug', () => {
    assert.ok(wantsDetails({ AUTOGLM_DEBUG: '1' }, []))
    assert.ok(wantsDetails({}, ['serve', '--log-level', 'debug']))
    assert.ok(wantsDetails({}, ['serve', '--log-level=debug']))
    assert.ok(!wantsDetails({}, ['debug', 'serve', '--log-level']))
  })
})

describe('a conversation', () => {
  const session: Session = { model: 'a', system: null, messages: [], temperature: null, maxTokens: null }
  it('forgets a turn without an answer', () => {
    assert.equal(remember(session, 'q', ''), session)
    assert.equal(remember(session, 'q', 'a').messages.length, 2)
  })
  it('takes any model when the server lists none', () => {
    const step = readLine('/model b', session, [])
    assert.equal(step.kind === 'go-on' && step.session.model, 'b')
  })
})

describe('the flags of an instance', () => {
  it('are those that the engine reads', () => {
    const flags = {
      model: 'dir/x.gguf',
      parallel: '2',
      waitingMax: '3',
      contextTokens: '4',
      threads: '5',
      gpu: 'auto',
      logLevel: 'info',
    }
    const options = parseOptions(toEngineFlags(flags, '/dir/x.gguf'))
    assert.deepEqual(options && { ...options, bodyBytesMax: 0, jsonDepthMax: 0, drainTimeoutMs: 0 }, {
      modelPath: '/dir/x.gguf',
      name: 'x',
      listen: { host: '127.0.0.1', port: 8081 },
      parallel: 2,
      waitingMax: 3,
      contextTokens: 4,
      threads: 5,
      gpu: 'auto',
      logLevel: 'info',
      bodyBytesMax: 0,
      jsonDepthMax: 0,
      drainTimeoutMs: 0,
    })
  })
  it('choose between a port and a socket', () => {
    const socket = parseOptions(toEngineFlags({ model: 'tiny', socket: '/s' }, '/t.gguf'))
    assert.deepEqual(socket?.listen, { socketPath: '/s' })
    assert.equal(socket?.name, 'tiny')
    const both = toEngineFlags({ model: 'tiny', socket: '/s', port: '1' }, '/t.gguf')
    assert.throws(() => parseOptions(both), { name: 'SetupError' })
  })
})
