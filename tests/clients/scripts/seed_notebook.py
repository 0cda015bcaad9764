"""The cells of the notebook TestAPI that talk to the dispatcher, as they stand in it: no address of ours is given.

A client of 1.0 asks the host that is named; later ones do not know `host`, and look the address up in a list of sites.
Cells begin with `# %%`. Behind each that asks for products they are shown, as far as all clients can.
"""
# fmt: off
# ruff: noqa: Q000 - written as in the notebook

# %%
import hashlib

import numpy as np
from oda_api.api import DispatcherAPI


def show(data):
    """Show names, headers and every bit of the products."""
    data.show()
    for name, given in zip(data._n_list, data._p_list, strict=True):
        product = getattr(given, "bin_data", given)
        if isinstance(product, bytes):
            print(name, len(product), hashlib.sha256(product).hexdigest())
        elif hasattr(product, "data_unit"):
            print(name, product.name, product.meta_data)
            for unit in product.data_unit:
                array = None if unit.data is None else np.ascontiguousarray(np.asarray(unit.data))
                told = array is not None and (array.shape, array.dtype, hashlib.sha256(array.tobytes()).hexdigest())
                print(" ", unit.name, told, unit.header)
        else:
            print(name, *product.table.pformat(), sep="\n")


# %%
disp=DispatcherAPI(host='www.astro.unige.ch/cdci/astrooda/dispatch-data',instrument='mock',protocol='https')

# %%
instr_list=disp.get_instruments_list()
for i in instr_list:
    print (i)

# %%
disp.get_instrument_description('isgri')

# %%
disp.get_product_description(instrument='isgri',product_name='isgri_image')

# %%
try:
    data=disp.get_product(instrument='isgri',
                          product='isgri_image',
                          T1='2003-03-15T23:27:40.0',
                          T2='2003-03-16T00:03:12.0',
                          osa_version='OSA10.2',
                          RA='a',
                          DEC=-37.844167,
                          detection_threshold=5.0,
                          radius=15.,
                          product_type='Real',
                          dry_run=True)
except (Exception, SystemExit) as error:  # the notebook shows it, and goes on
    print(type(error).__name__, error)

# %%
data=disp.get_product(instrument='isgri',
                      product='isgri_image',
                      T1='2003-03-15T23:27:40.0',
                      T2='2003-03-16T00:03:15.0',
                      E1_keV=20.0,
                      E2_keV=40.0,
                      osa_version='OSA10.2',
                      RA=255.986542,
                      DEC=-37.844167,
                      detection_threshold=5.0,
                      radius=15.,
                      product_type='Real')
show(data)

# %%
api_cat=data.dispatcher_catalog_1.get_api_dictionary()
print(api_cat)

# %%
data=disp.get_product(instrument='isgri',
                      product='isgri_image',
                      T1='2003-03-15T23:27:40.0',
                      T2='2003-03-16T00:03:15.0',
                      E1_keV=20.0,
                      E2_keV=40.0,
                      osa_version='OSA10.2',
                      RA=255.986542,
                      DEC=-37.844167,
                      detection_threshold=5.0,
                      radius=15.,
                      product_type='Real',
                      selected_catalog=api_cat)
show(data)

# %%
data=disp.get_product(instrument='isgri',
                      product='isgri_lc',
                      T1='2003-03-15T23:27:40.0',
                      T2='2003-03-16T00:03:12.0',
                      time_bin=70,
                      osa_version='OSA10.2',
                      RA=255.986542,
                      DEC=-37.844167,
                      detection_threshold=5.0,
                      radius=15.,
                      product_type='Real')
show(data)

# %%
data=disp.get_product(instrument='polar',product='polar_lc',T1='2016-12-18T08:32:21.000',T2='2016-12-18T08:34:01.000',time_bin=0.5,verbose=True,dry_run=False)
show(data)

# %%
disp.get_instrument_description('spi_acs')

# %%
data=disp.get_product(instrument='spi_acs',
                      product='spi_acs_lc',
                      T1='2003-03-15T23:27:40.0',
                      T2='2003-03-15T23:57:12.0',
                      time_bin=2,
                      osa_version='OSA10.2',
                      RA=255.986542,
                      DEC=-37.844167,
                      detection_threshold=5.0,
                      radius=15.,
                      product_type='Real')
show(data)

# %%
data=disp.get_product(instrument='isgri',
                      product='isgri_spectrum',
                      T1='2003-03-15T23:27:40.0',
                      T2='2003-03-16T00:03:12.0',
                      time_bin=50,
                      osa_version='OSA10.2',
                      RA=255.986542,
                      DEC=-37.844167,
                      detection_threshold=5.0,
                      radius=15.,
                      product_type='Real')
show(data)

# %%
disp.get_instrument_description('jemx')

# %%
data=disp.get_product(instrument='jemx',
                      jemx_num='2',
                      product='jemx_image',
                      scw_list=['010200230010.001'],
                      osa_version='OSA10.2',
                      detection_threshold=5.0,
                      radius=15.,
                      product_type='dummy')
show(data)

# %%
data=disp.get_product(instrument='jemx',
                      jemx_nume='2',
                      product='jemx_lc',
                      scw_list=['010200230010.001'],
                      osa_version='OSA10.2',
                      detection_threshold=5.0,
                      radius=15.,
                      product_type='Real')
show(data)

# %%
data=disp.get_product(instrument='jemx',
                      jemx_num='2',
                      product='jemx_spectrum',
                      scw_list=['010200230010.001'],
                      osa_version='OSA10.2',
                      detection_threshold=5.0,
                      radius=15.,
                      product_type='Real')
show(data)
