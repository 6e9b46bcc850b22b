import { strict as assert } from 'node:assert'
import { mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { homedir, tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, beforeEach, describe, it } from 'node:test'
import { findConfigFile } from '../../src/config/config-file.ts'
import type { Environment } from '../../src/config/environment.ts'
import type { Flags } from '../../src/config/flags.ts'
import { loadConfig } from '../../src/config/load.ts'
import { printConfig } from '../../src/config/print.ts'

const cwd = mkdtempSync(join(tmpdir(), 'autoglm-load-'))
const elsewhere = mkdtempSync(join(tmpdir(), 'autoglm-elsewhere-'))
const path = join(cwd, 'autoglm.yaml')
after(() => [cwd, elsewhere].forEach((folder) => rmSync(folder, { recursive: true })))
beforeEach(() => rmSync(path, { force: true }))

function load({ file, env = {}, flags = {} }: { file?: string; env?: Environment; flags?: Flags } = {}) {
  if (file !== undefined) writeFileSync(path, file)
  return loadConfig({ env, flags, cwd })
}

describe('what a configuration is made of', () => {
  it('has a default for everything', () => {
    const config = load()
    assert.equal(config.server.port, 8080)
    assert.equal(config.routing.policy, 'peak_ewma')
    assert.deepEqual(
      config.models.map(({ name, source, instances, parallel }) => ({ name, source, instances, parallel })),
      [{ name: 'tiny', source: 'tiny', instances: 2, parallel: 8 }],
    )
  })

  it('takes the flag over the variable over the file', () => {
    const file = 'server: {port: 1, host: a}\nlog: {level: warn}\n'
    const env = { AUTOGLM_SERVER_PORT: '2', AUTOGLM_LOG_LEVEL: 'error' }
    const config = load({ file, env, flags: { port: '3' } })
    assert.equal(config.server.port, 3)
    assert.equal(config.log.level, 'error')
    assert.equal(config.server.host, 'a')
  })

  it('is frozen to its leaves', () => {
    const config = load({ file: 'routing: {aliases: {x: tiny}}' })
    for (const part of [config, config.server, config.models, config.models[0], config.routing.aliases]) {
      assert.ok(Object.isFrozen(part))
    }
  })

  it('reads lists and mappings from variables as YAML or JSON', () => {
    const config = load({
      env: {
        AUTOGLM_MODELS: '[{name: a, source: tiny}]',
        AUTOGLM_ROUTING_ALIASES: '{"x": "a"}',
        AUTOGLM_ROUTING_RETRY_RATIO: '.5',
      },
    })
    assert.equal(config.models[0]?.name, 'a')
    assert.deepEqual(config.routing.aliases, { x: 'a' })
    assert.equal(config.routing.retryRatio, 0.5)
  })

  it('counts an empty variable and a section without lines as not given', () => {
    const file = 'server:\n  # port: 1\nmodels:\nrouting: {aliases: }\n'
    assert.equal(load({ file, env: { AUTOGLM_SERVER_PORT: '' } }).server.port, 8080)
  })

  it('takes an empty file, and a file that is not there, for no settings', () => {
    assert.equal(load({ file: '# nothing yet\n' }).server.port, 8080)
  })

  it('follows aliases and merge keys', () => {
    const file = 'models:\n  - &a {name: a, source: tiny, parallel: 3}\n  - {<<: *a, name: b}\n'
    assert.deepEqual(load({ file }).models.map(({ name, parallel }) => [name, parallel]), [['a', 3], ['b', 3]])
  }) // prettier-ignore

  it('ignores what Kubernetes says about a Service called autoglm or autoglm-server', () => {
    const env = {
      AUTOGLM_SERVICE_HOST: '10.0.0.1',
      AUTOGLM_SERVICE_PORT: '8080',
      AUTOGLM_SERVICE_PORT_HTTP: '8080',
      AUTOGLM_PORT: 'tcp://10.0.0.1:8080',
      AUTOGLM_PORT_8080_TCP: 'tcp://10.0.0.1:8080',
      AUTOGLM_PORT_8080_TCP_ADDR: '10.0.0.1',
      AUTOGLM_SERVER_PORT: 'tcp://10.0.0.2:8080',
      AUTOGLM_API_KEY: 'k',
    }
    assert.equal(load({ env }).server.port, 8080)
  })

  it('prints itself as a file that gives the same', () => {
    const config = load({ file: 'routing: {aliases: {x: tiny}}\nserver: {port: 9}\n' })
    assert.deepEqual(load({ file: printConfig(config) }), config)
  })

  for (const [url, shown] of [
    ['postgres://u:s3cret@h/db', 'postgres://u:***@h/db'],
    ['postgres://u:s3@cret@h/db', 'postgres://u:***@h/db'],
    ['postgres://:s3cret@h/db', 'postgres://:***@h/db'],
    ['postgres://u@h/db?password=s3cret&sslmode=no', 'postgres://u@h/db?password=***&sslmode=no'],
    ['postgres://u@h/db?application_name=a@b', 'postgres://u@h/db?application_name=a@b'],
  ] as const) {
    it(`prints ${url} as ${shown}`, () => {
      const text = printConfig(load({ flags: { storage: url } }))
      assert.equal(/^storage:\n  url: (.*)$/m.exec(text)?.[1], shown)
    })
  }
})

describe('the models that run', () => {
  const upstreams = 'upstreams: [{name: u, url: "http://h:1/v1"}]\n'
  const count = (options: Parameters<typeof load>[0]) => load(options).models.length

  it('are two of tiny when neither models nor upstreams are given', () => {
    assert.equal(count({}), 1)
    assert.equal(count({ file: 'upstreams: []' }), 1)
  })
  it('are none beside upstreams, wherever those were given', () => {
    assert.equal(count({ file: upstreams }), 0)
    assert.equal(count({ env: { AUTOGLM_UPSTREAMS: '[{name: u, url: "http://h"}]' } }), 0)
    assert.equal(count({ flags: { upstream: ['http://h'] } }), 0)
  })
  it('stay beside upstreams when they are given themselves', () => {
    assert.equal(count({ file: `${upstreams}models: [{name: a, source: tiny}]` }), 1)
    assert.equal(count({ file: upstreams, flags: { model: 'tiny' } }), 1)
  })
  it('are named after the file by --model, which replaces those of the file', () => {
    const file = 'models: [{name: a, source: tiny}, {name: b, source: tiny}]'
    const name = (model: string) => load({ file, flags: { model } }).models.map((entry) => entry.name)
    assert.deepEqual(name('tiny'), ['tiny'])
    assert.deepEqual(name('dir/Llama-3.Q4.gguf'), ['Llama-3.Q4'])
    assert.deepEqual(name('hf:me/repo@main:sub/x.gguf'), ['x'])
  })
  it('get their number from --instances when there is one', () => {
    assert.equal(load({ flags: { instances: '3' } }).models[0]?.instances, 3)
    assert.equal(load({ flags: { instances: '3', model: 'tiny' } }).models[0]?.instances, 3)
  })
})

describe('upstreams of the command line', () => {
  it('are named by host and port, apart from one another', () => {
    const upstream = ['http://h:8000', 'http://h:8000/b/v1/', 'https://h', 'http://[::1]:9/v1']
    assert.deepEqual(
      load({ flags: { upstream } }).upstreams.map(({ name, url }) => [name, url]),
      [
        ['h-8000', 'http://h:8000/v1'],
        ['h-8000-2', 'http://h:8000/b/v1'],
        ['h-443', 'https://h/v1'],
        ['1-9', 'http://[::1]:9/v1'],
      ],
    )
  })
  it('allow names of models that only they may know', () => {
    const file = 'routing: {aliases: {x: llama}, policies: {qwen: prefix}, fallbacks: {llama: [qwen]}}'
    assert.deepEqual(load({ file, flags: { upstream: ['http://h'] } }).routing.aliases, { x: 'llama' })
  })
})

describe('relative paths', () => {
  it('start from the folder of the file that holds them, and else from the current folder', () => {
    const file = join(elsewhere, 'prod.yaml')
    writeFileSync(file, 'dataDir: state\nmodels: [{name: a, source: models/a.gguf}, {name: t, source: tiny}]')
    const config = loadConfig({ file, env: {}, flags: {}, cwd })
    assert.equal(config.dataDir, join(elsewhere, 'state'))
    assert.deepEqual(config.models.map(({ source }) => source), [join(elsewhere, 'models/a.gguf'), 'tiny'])

    const flags = { model: 'a.gguf', dataDir: 'd' }
    const moved = loadConfig({ file, env: {}, flags, cwd })
    assert.equal(moved.dataDir, join(cwd, 'd'))
    assert.equal(moved.models[0]?.source, join(cwd, 'a.gguf'))
    assert.equal(load().dataDir, join(cwd, '.autoglm'))
  }) // prettier-ignore
  it('may begin at home', () => {
    assert.equal(load({ flags: { model: '~/a.gguf' } }).models[0]?.source, join(homedir(), 'a.gguf'))
  })
})

describe('the configuration file', () => {
  const refuses = (file: string, message: RegExp) =>
    assert.throws(() => loadConfig({ file, env: {}, flags: {}, cwd }), { name: 'SetupError', message })

  it('is the named one, then AUTOGLM_CONFIG, then autoglm.yaml, then none', () => {
    const env = { AUTOGLM_CONFIG: 'b.yaml' }
    assert.equal(findConfigFile({ file: 'a.yaml', env, cwd }), join(cwd, 'a.yaml'))
    assert.equal(findConfigFile({ env, cwd }), join(cwd, 'b.yaml'))
    assert.equal(findConfigFile({ env: {}, cwd }), null)
    writeFileSync(path, '')
    assert.equal(findConfigFile({ env: {}, cwd }), path)
  })
  it('must be there when it is named', () => {
    refuses('x.yaml', /^x\.yaml is not there; check the path, or leave it out to take autoglm\.yaml/)
  })
  it('must be a file', () => {
    mkdirSync(join(cwd, 'folder.yaml'))
    refuses('folder.yaml', /^folder\.yaml is a folder; name the YAML file in it$/)
    refuses('folder.yaml/../nothing/x', /^nothing\/x is not there/)
    symlinkSync(join(cwd, 'circle.yaml'), join(cwd, 'circle.yaml'))
    refuses('circle.yaml', /^circle\.yaml cannot be read: ELOOP/)
  })
  it('must be a text of a bearable length', () => {
    writeFileSync(join(cwd, 'binary.yaml'), Buffer.from([0x47, 0x47, 0, 0xff]))
    refuses('binary.yaml', /^binary\.yaml is not a text in UTF-8; name a YAML file$/)
    writeFileSync(join(cwd, 'long.yaml'), `#${' '.repeat(1024 * 1024)}`)
    refuses('long.yaml', /^long\.yaml is larger than 1048576 bytes: this is not a configuration file$/)
  })
})
