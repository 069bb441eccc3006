export const renderArchive = (f: object): string => JSON.stringify(f, null, 1);
