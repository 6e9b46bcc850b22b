import type { Command } from 'commander'
import { addConfigOptions, splitConfigOptions, type ConfigOptions } from './options.ts'

const load = () => import('./storage-commands.ts')

/** Adds `autoglm storage backup|check|prune`. `onResult` is given the exit code of the one that ran. */
export function addStorageCommand(program: Command, onResult: (code: number) => void): void {
  const storage = program.command('storage').description('look after what is kept on disk')

  addConfigOptions(storage.command('backup <path>'))
    .description('write a consistent copy of the embedded database to a new file, also while the server runs')
    .addHelpText('after', '\nTo restore: stop the server, and copy the file to the place of the database.')
    .action(async (path: string, options: ConfigOptions) =>
      onResult(await (await load()).backUpStorage(path, splitConfigOptions(options))),
    )

  addConfigOptions(storage.command('check'))
    .description('look for damage, also while the server runs; ends with 1 when there is any')
    .action(async (options: ConfigOptions) =>
      onResult(await (await load()).checkStorage(splitConfigOptions(options))),
    )

  addConfigOptions(storage.command('prune'))
    .description(
      'remove ended tasks and files that are past their retention; a running server does this by itself',
    )
    .action(async (options: ConfigOptions) =>
      onResult(await (await load()).pruneStorage(splitConfigOptions(options))),
    )
}
